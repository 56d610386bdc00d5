"""`python -m alseg_cli`, which is what torchrun starts."""

from alseg_cli.app import main

main()
