"""rules.yaml -> typed settings; errors with file, line and column.

rules_file     the whole: `load`
document       YAML -> data and the place of every value
lists          what ``$name`` stands for
settings       every key, its type, default and unit
fields, units, patterns   the types of single settings
conditions     ``when``
unmatchable    patterns that fit no address
routes         which recipients of which clients a route takes
validation, problems      what is wrong, in words
"""

from gatepost.config.problems import ConfigError, Mark, Problem
from gatepost.config.rules_file import LoadedConfig, load
from gatepost.config.settings import Config

__all__ = ["Config", "ConfigError", "LoadedConfig", "Mark", "Problem", "load"]
