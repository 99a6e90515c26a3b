"""The settings of rules.yaml as typed values; errors name file, line and column.

Each section of rules.yaml has a module of its name, for example `listen`; `settings` is the whole.
"""

from gatepost.config.problems import ConfigError, Mark, Problem
from gatepost.config.rules_file import Examined, LoadedConfig, examine, load
from gatepost.config.settings import Config

__all__ = ["Config", "ConfigError", "Examined", "LoadedConfig", "Mark", "Problem", "examine", "load"]
