"""`python -m jarai_async` is the command `jarai`."""

from jarai_async._cli.commands import main

raise SystemExit(main())
