"""Rules of a provider's own on who may use which model: TOML, compiled, tested, in shadow first."""
