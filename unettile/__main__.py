"""Run the command line: `python -m unettile`."""

from unettile.cli import main

if __name__ == "__main__":
    main()
