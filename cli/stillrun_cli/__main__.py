"""`python -m stillrun_cli`: how a flow file hands over to the command."""

from stillrun_cli.main import main

main()
