"""Machines with a BMC that speaks Redfish (iLO, iDRAC, and others): power, boot from the network, MAC addresses."""
