"""Run the command line as `python -m mongopatterns`."""

from mongopatterns.cli import main

if __name__ == "__main__":
    main()
