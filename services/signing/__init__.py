"""The signing proxy: a process of its own between the platform and the keys. It signs only what it has parsed and allowed."""
