import logging

# Other libraries load it wherever it is installed, and it then warns of a kernel that a hub has and this machine not.
logging.getLogger("bitsandbytes").setLevel(logging.ERROR)
