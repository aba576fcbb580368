"""The world as it is: each module makes one port real, and none knows another."""
