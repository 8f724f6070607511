"""The `stillrun` command and the commands of a flow file: parse, call, print."""
