"""Hours of traffic in minutes: the gateway under steady load with faults, and then everybody's books compared.

__main__   the run: capacity, load, the end     site      the processes: workers, gateway
traffic    what clients ask for, and how        checks    what has to hold
"""
