"""What Posthouse can carry on this machine, beside what the machine itself can."""
