"""What an export gets unless asked for otherwise; apart from all else, because the command line shows it before torch is loaded."""

TOP_K = 8
