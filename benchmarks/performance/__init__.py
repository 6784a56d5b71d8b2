"""How fast and lean the library is, beside its peers."""
