"""DRAM channels, command by command: standards, controller, delivery of traffic."""
