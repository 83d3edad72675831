"""The commands. The only package that imports Ray, and the only one that knows all the others."""
