"""Evidence: offline data sets, lookup tables of measured APs, and the protocol that compares methods on them."""
