"""The settings by what they are about; `services.kit.config` puts them together."""
