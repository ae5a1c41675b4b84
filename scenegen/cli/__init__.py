"""The command lines: one parser for all commands, one file for each command."""
