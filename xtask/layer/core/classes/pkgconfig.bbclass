# nothing that parsing needs
