"""A city of simulated people with planted patterns: what a run should find is known beforehand."""

from chronotope.simulator.city import City
from chronotope.simulator.settings import SimulatorSettings
from chronotope.simulator.simulation import Simulation
from chronotope.simulator.truth import Crowd, FollowUp, Habit, Truth

__all__ = ["City", "Crowd", "FollowUp", "Habit", "Simulation", "SimulatorSettings", "Truth"]
