"""WHAT is computed: cascades of extended Einsums, their semantics and their properties. No hardware."""
