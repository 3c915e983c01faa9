# Completion of lovol for fish: lovol itself knows what fits.

LOVOL_COMPLETE=fish command lovol 2>/dev/null | source
