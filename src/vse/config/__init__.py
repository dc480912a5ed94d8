"""The settings of a site: their shape (`settings`) and how they are read (`load`)."""
