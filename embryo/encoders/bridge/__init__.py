"""Models in an interpreter of their own, reached through a checked protocol (docs/bridge.md)."""
