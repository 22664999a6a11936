"""`python -m client.cli` is `backup-tool`."""

from client.cli.start import main

if __name__ == "__main__":
    main()
