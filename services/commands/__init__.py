"""The commands of `ai-infra`, one file for each group. Heavy imports happen inside commands, so that --help is quick."""
