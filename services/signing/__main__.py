"""`python -m services.signing` runs the proxy."""

import sys

from services.signing.bootstrap import main

sys.exit(main())
