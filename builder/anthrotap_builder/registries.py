"""The parts of labeling that a recipe chooses by name. Adding one is one file and one line in a registry here.

Nothing is imported until a part is loaded. All parts of a registry are called alike, as the comment above it says.
"""

from __future__ import annotations

from anthrotap_hf.utils.registry import Registry

# (context: ClipContext) -> list[PersonTrack]
DETECTORS = Registry(
    "detector",
    {
        "blazepose": "anthrotap_builder.detection.blazepose:detect_people",
        "boxes": "anthrotap_builder.detection.boxes:detect_people",
    },
)
# (name: str, gender: str, file: Path | None) -> Body
_SMPL_FAMILY = dict.fromkeys(("smpl", "smplh", "smplx", "smal"), "anthrotap_builder.bodies.smpl:load_smpl")
BODIES = Registry("body model", {"anny": "anthrotap_builder.bodies.anny:load_anny", **_SMPL_FAMILY})
# (context: ClipContext, people: list[PersonTrack]) -> list[MeshTrack]
MESH_SOURCES = Registry(
    "mesh source",
    {
        "fit": "anthrotap_builder.mesh_recovery.fit:recover_meshes",
        "tokenhmr": "anthrotap_builder.mesh_recovery.tokenhmr:recover_meshes",
    },
)
# (settings: FlowSettings, device: str) -> Flow
FLOWS = Registry(
    "flow", {"dis": "anthrotap_builder.flow.dis:load_dis", "raft": "anthrotap_builder.flow.raft:load_raft"}
)
# A MeshFormat: what writes files of meshes, and the function that reads one
_FORMATS = "anthrotap_builder.mesh_recovery.formats"
MESH_FORMATS = Registry(
    "format of meshes",
    {
        "anthrotap": f"{_FORMATS}.ours:FORMAT",
        "phalp": f"{_FORMATS}.phalp:FORMAT",
        "tokenhmr": f"{_FORMATS}.phalp:TOKENHMR",
        "wham": f"{_FORMATS}.wham:FORMAT",
        "gvhmr": f"{_FORMATS}.gvhmr:FORMAT",
        "multi-hmr": f"{_FORMATS}.multi_hmr:FORMAT",
        "sam-3d-body": f"{_FORMATS}.sam_3d_body:FORMAT",
        "gem-x": f"{_FORMATS}.gem_x:FORMAT",
        "smplx": f"{_FORMATS}.smplx_npz:FORMAT",
        "folder": f"{_FORMATS}.mesh_folder:FORMAT",
    },
)
