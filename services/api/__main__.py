"""`python -m services.api` runs the API process."""

import sys

from services.api.bootstrap import main

sys.exit(main())
