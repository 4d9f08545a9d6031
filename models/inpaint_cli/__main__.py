"""`python -m inpaint_cli` is the command `inpaint`."""

from . import main

raise SystemExit(main())
