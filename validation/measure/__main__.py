"""`python -m cascadesim.validation.measure`: `measure` where nothing is installed but torch and triton."""

import sys

from cascadesim.validation.measure.command import main

sys.exit(main())
