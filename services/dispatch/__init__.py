"""DispatchService: everything that goes out."""
