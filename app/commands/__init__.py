"""Groups of operators' commands, one file each; app/cli.py lists them."""
