"""The commands of the command line, one a file: arguments and a call. `compresskit.cli` adds them and maps errors."""
