"""The demo: the main job on a fresh home, told on the terminal, every claim checked from outside."""
