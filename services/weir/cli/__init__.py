"""The commands of `weir`, one a file, each a click command or group named `command`."""
