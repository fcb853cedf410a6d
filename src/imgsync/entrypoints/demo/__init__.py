"""The demonstration: a whole copy between two accounts of the emulator."""
