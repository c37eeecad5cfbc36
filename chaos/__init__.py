"""What Posthouse promises, tried on real processes that are killed, stopped, robbed and lied to."""
