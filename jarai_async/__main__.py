"""`python -m jarai_async` runs the command `jarai`."""

from jarai_async._cli.commands import main

raise SystemExit(main())
