"""The cycle-level engine: tasks on units, exact to the cycle."""
