"""`python -m services.serving.router`: settings come from the environment, see settings."""

from services.serving.bootstrap import main

if __name__ == "__main__":
    main()
