"""The command `ocim`: docker's names and flags for the manager's operations. Only here the manager prints and exits."""
