"""The environments: what the YAML of each may say, and how its layers are joined from components."""
