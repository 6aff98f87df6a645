"""`jarai completion`: a script for a shell."""

import argparse
import sys

from jarai_async._cli.arguments import build_parser
from jarai_async._errors import ConfigurationError


async def print_completion(options: argparse.Namespace) -> int:
    """Print the script. Raises ConfigurationError without shtab."""
    try:
        import shtab  # noqa: PLC0415  # an optional extra
    except ImportError:
        raise ConfigurationError("this needs shtab: pip install 'jarai-async[cli]'") from None
    sys.stdout.write(f"{shtab.complete(build_parser(), options.shell)}\n")
    return 0
