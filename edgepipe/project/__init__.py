"""The user's repository: its edgepipe.toml with models, their gates, and what was accepted."""
