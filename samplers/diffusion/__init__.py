"""Draws of a field given its noisy image, by diffusion models."""

from .denoisers import ConditionalMean as ConditionalMean
from .denoisers import Denoiser as Denoiser
from .denoisers import ExactMean as ExactMean
from .denoisers import ReverseDiffusion as ReverseDiffusion
from .denoisers import WienerDenoiser as WienerDenoiser
from .network import TrainedMean as TrainedMean
from .network import Training as Training
from .network import excess_loss as excess_loss
from .network import load as load
from .network import save as save
from .network import train as train
from .schedule import Schedule as Schedule
