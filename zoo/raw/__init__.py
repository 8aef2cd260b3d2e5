"""The camera: colour filter arrays, photographs as training data, the sensor, and what networks are measured against.

In reading order: `cfa` (which colour a pixel sees), `imperfections` and `sensor` (what a real one does), `reading` and
`photographs` (files), `dataset` (mosaics with their truth), `targets` (what a supervised term compares), `baselines`,
`menon`, `steered`, `lmmse` and `remosaic` (demosaicing without a network) with `methods` (all of it by name), `metrics`
and `artefacts`, and `evaluation` with its `pictures` and `sheet`.
"""

from zoo.raw.baselines import BinBicubic as BinBicubic
from zoo.raw.baselines import Malvar as Malvar
from zoo.raw.baselines import NormalisedConvolution as NormalisedConvolution
from zoo.raw.cfa import CFA as CFA
from zoo.raw.dataset import PhotographCrops as PhotographCrops
from zoo.raw.dataset import PhotographFrames as PhotographFrames
from zoo.raw.evaluation import DemosaicEvaluation as DemosaicEvaluation
from zoo.raw.lmmse import LMMSEPhase as LMMSEPhase
from zoo.raw.losses import mse_inside as mse_inside
from zoo.raw.menon import Menon as Menon
from zoo.raw.mosaic_input import FromMosaic as FromMosaic
from zoo.raw.photographs import Photographs as Photographs
from zoo.raw.remosaic import Remosaic as Remosaic
from zoo.raw.sensor import Sensor as Sensor
from zoo.raw.steered import SteeredKernelRegression as SteeredKernelRegression
from zoo.raw.targets import Reduced as Reduced
