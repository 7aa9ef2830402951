"""The face: what `import unettile` promises. Each function does what the command of its name does."""
