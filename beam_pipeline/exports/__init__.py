"""Writers of a curated set in the formats that training code loads, a module each."""
