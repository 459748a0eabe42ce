"""Where deployments run. One file is one backend."""
