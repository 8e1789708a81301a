"""The pixel loops of the renderer: z-buffer, procedural cloth and skin, a textured room, shadows.

Everything is plain arrays, so that it runs outside the interpreter lock. Colors are linear light.
"""

from __future__ import annotations

import numpy as np
from numba import njit

_jit = njit(cache=True, nogil=True, fastmath=True, error_model="numpy")

# Meters; nearer triangles are skipped.
NEAR = 0.15
# Side of the periodic noise cube.
NOISE_SIDE = 32

# What a row of the materials table holds (see `clothing`).
KIND, COLOR_A, COLOR_B, COLOR_C = 0, 1, 4, 7
SCALE, GRAIN, WRINKLE, SHINE = 10, 11, 12, 13
ORIGIN, AXIS, SIDE = 14, 17, 20  # the frame in which patterns run around and along a limb
CYCLES = 23  # pattern repeats around the limb
DECAL, DECAL_X, DECAL_Z, DECAL_HALF = 24, 25, 26, 27
PAINT_FIRST, PAINT_LAST = 28, 29
MATERIAL_SIZE = 30

PLAIN, PLAID, STRIPES, PRINT, DOTS, DENIM, HAIR, WOOD, SKIN, SOLE = range(10)


@_jit
def project(points, rotation, position, focal, center_x, center_y, out):
    """Project world points [V, 3] into `out` [V, 3]: pixel x, pixel y and 1/depth; 1/depth is 0 where too near."""
    for i in range(len(points)):
        x, y, z = points[i, 0] - position[0], points[i, 1] - position[1], points[i, 2] - position[2]
        depth = rotation[2, 0] * x + rotation[2, 1] * y + rotation[2, 2] * z
        if depth < NEAR:
            out[i, 2] = 0.0
            continue
        inverse = 1.0 / depth
        out[i, 0] = (rotation[0, 0] * x + rotation[0, 1] * y + rotation[0, 2] * z) * inverse * focal + center_x
        out[i, 1] = (rotation[1, 0] * x + rotation[1, 1] * y + rotation[1, 2] * z) * inverse * focal + center_y
        out[i, 2] = inverse


@_jit
def rasterize(corners, faces, inverse_depth, index):
    """Fill the z-buffer `inverse_depth` [H, W] and the triangle `index` [H, W] (-1: none)."""
    height, width = index.shape
    inverse_depth[:] = 0.0
    index[:] = -1
    for k in range(len(faces)):
        a, b, c = faces[k, 0], faces[k, 1], faces[k, 2]
        az, bz, cz = corners[a, 2], corners[b, 2], corners[c, 2]
        if az == 0.0 or bz == 0.0 or cz == 0.0:
            continue
        ax, ay, bx, by = corners[a, 0], corners[a, 1], corners[b, 0], corners[b, 1]
        cx, cy = corners[c, 0], corners[c, 1]
        area = (bx - ax) * (cy - ay) - (by - ay) * (cx - ax)
        if area == 0.0:
            continue
        left = max(0, int(np.ceil(min(ax, min(bx, cx)) - 0.5)))
        right = min(width - 1, int(np.floor(max(ax, max(bx, cx)) - 0.5)))
        top = max(0, int(np.ceil(min(ay, min(by, cy)) - 0.5)))
        bottom = min(height - 1, int(np.floor(max(ay, max(by, cy)) - 0.5)))
        scale = 1.0 / area
        for y in range(top, bottom + 1):
            py = y + 0.5 - ay
            for x in range(left, right + 1):
                px = x + 0.5 - ax
                v = (px * (cy - ay) - py * (cx - ax)) * scale
                w = ((bx - ax) * py - (by - ay) * px) * scale
                u = 1.0 - v - w
                if u < 0.0 or v < 0.0 or w < 0.0:
                    continue
                z = u * az + v * bz + w * cz
                if z > inverse_depth[y, x]:
                    inverse_depth[y, x] = z
                    index[y, x] = k


@_jit
def vertex_normals(vertices, faces, normals):
    """Compute area-weighted unit normals [V, 3] of a mesh."""
    normals[:] = 0.0
    for k in range(len(faces)):
        a, b, c = faces[k, 0], faces[k, 1], faces[k, 2]
        ux, uy, uz = (
            vertices[b, 0] - vertices[a, 0],
            vertices[b, 1] - vertices[a, 1],
            vertices[b, 2] - vertices[a, 2],
        )
        vx, vy, vz = (
            vertices[c, 0] - vertices[a, 0],
            vertices[c, 1] - vertices[a, 1],
            vertices[c, 2] - vertices[a, 2],
        )
        nx, ny, nz = uy * vz - uz * vy, uz * vx - ux * vz, ux * vy - uy * vx
        for j in range(3):
            i = faces[k, j]
            normals[i, 0] += nx
            normals[i, 1] += ny
            normals[i, 2] += nz
    for i in range(len(normals)):
        length = np.sqrt(normals[i, 0] ** 2 + normals[i, 1] ** 2 + normals[i, 2] ** 2) + 1e-12
        for j in range(3):
            normals[i, j] /= length


@_jit
def skin(rest, joint_index, joint_weight, transforms, out):
    """Skin `rest` [V, 3] linearly by a few joints a vertex, `transforms` [J, 3, 4]."""
    for i in range(len(rest)):
        x, y, z = rest[i, 0], rest[i, 1], rest[i, 2]
        for a in range(3):
            total = 0.0
            for k in range(joint_index.shape[1]):
                m = transforms[joint_index[i, k], a]
                total += joint_weight[i, k] * (m[0] * x + m[1] * y + m[2] * z + m[3])
            out[i, a] = total


@_jit
def noise_at(cube, x, y, z):
    """Interpolate the periodic noise `cube` [32, 32, 32], in [-1, 1], trilinearly; one unit is one grid step."""
    fx, fy, fz = np.floor(x), np.floor(y), np.floor(z)
    dx, dy, dz = x - fx, y - fy, z - fz
    dx, dy, dz = dx * dx * (3 - 2 * dx), dy * dy * (3 - 2 * dy), dz * dz * (3 - 2 * dz)
    i, j, k = int(fx) & 31, int(fy) & 31, int(fz) & 31
    i1, j1, k1 = (i + 1) & 31, (j + 1) & 31, (k + 1) & 31
    low = (cube[i, j, k] * (1 - dx) + cube[i1, j, k] * dx) * (1 - dy) + (
        cube[i, j1, k] * (1 - dx) + cube[i1, j1, k] * dx
    ) * dy
    high = (cube[i, j, k1] * (1 - dx) + cube[i1, j, k1] * dx) * (1 - dy) + (
        cube[i, j1, k1] * (1 - dx) + cube[i1, j1, k1] * dx
    ) * dy
    return low * (1 - dz) + high * dz


@_jit
def _band(x, width):
    """Return 1 within `width` of a whole number, 0 far from it, with soft edges."""
    distance = abs(x - np.rint(x))
    return min(max((width - distance) / 0.06 + 0.5, 0.0), 1.0)


@_jit
def _albedo(material, x, y, z, cube, decals, paints, color):
    """Compute the color of a rest-space position on a material, into `color` [3]."""
    kind = int(material[KIND])
    ox, oy, oz = x - material[ORIGIN], y - material[ORIGIN + 1], z - material[ORIGIN + 2]
    along = ox * material[AXIS] + oy * material[AXIS + 1] + oz * material[AXIS + 2]
    side = ox * material[SIDE] + oy * material[SIDE + 1] + oz * material[SIDE + 2]
    third = (
        ox * (material[AXIS + 1] * material[SIDE + 2] - material[AXIS + 2] * material[SIDE + 1])
        + oy * (material[AXIS + 2] * material[SIDE] - material[AXIS] * material[SIDE + 2])
        + oz * (material[AXIS] * material[SIDE + 1] - material[AXIS + 1] * material[SIDE])
    )
    scale = material[SCALE]
    # Weights of the second and third color.
    b, c = 0.0, 0.0
    if kind in (PLAID, DOTS):
        around = np.arctan2(third, side) * (0.5 / np.pi) * material[CYCLES]
        v = along * scale
        if kind == PLAID:
            b = 0.55 * (_band(around, 0.22) + _band(v, 0.22))
            c = max(_band(around + 0.5, 0.05), _band(v + 0.5, 0.05))
        else:
            row = np.floor(v)
            shift = 0.5 * (row - 2 * np.floor(row * 0.5))
            p, q = around + shift, v - row - 0.5
            p -= np.rint(p)
            b = min(max((0.30 - np.sqrt(p * p + q * q)) / 0.08 + 0.5, 0.0), 1.0)
    elif kind == STRIPES:
        b = _band(along * scale, 0.2)
        c = _band(along * scale * 0.5 + 0.25, 0.05)
    elif kind == PRINT:
        p = noise_at(cube, x * scale, y * scale, z * scale) + 0.5 * noise_at(
            cube, 2.3 * x * scale + 7, 2.3 * y * scale + 3, 2.3 * z * scale
        )
        q = noise_at(cube, 1.4 * x * scale + 11, 1.4 * y * scale + 5, 1.4 * z * scale + 17)
        b = min(max(p * 9 - 0.6, 0.0), 1.0)
        c = min(max(q * 9 - 1.8, 0.0), 1.0)
    elif kind == DENIM:
        b = min(max(0.5 + 0.8 * noise_at(cube, x * 9, y * 9, z * 6), 0.0), 1.0)
        c = 0.25 * max(noise_at(cube, x * 150, y * 150, z * 150), 0.0)
    elif kind == HAIR:
        angle = np.arctan2(ox, oy)
        b = min(max(0.5 + 0.9 * noise_at(cube, angle * 14, oz * 9, ox * 25), 0.0), 1.0)
        c = 0.5 * max(noise_at(cube, angle * 26 + 5, oz * 14, oy * 30), 0.0)
    elif kind == WOOD:
        warp = noise_at(cube, x * 3, y * 3, z * 3)
        ring = np.sin((side * 34 + third * 16 + 2.6 * warp) + 1.4 * noise_at(cube, side * 40, third * 40, along * 4))
        b = 0.5 + 0.5 * ring
        c = 0.4 * max(noise_at(cube, side * 90, third * 90, along * 6), 0.0)
    elif kind == SOLE:
        b = 0.5 + 0.5 * noise_at(cube, x * 30, y * 30, z * 30)
        b = max(b, _band(y * 30, 0.12) if z > -0.775 and y < -0.06 else 0.0)  # laces
        c = 1.0 if oz < 0 else 0.0
    elif kind == SKIN:
        b = min(max(0.35 + 0.7 * noise_at(cube, x * 18, y * 18, z * 18), 0.0), 1.0)
        c = 0.35 * max(noise_at(cube, x * 70, y * 70, z * 70), 0.0)
    b, c = min(b, 1.0), min(c, 1.0)
    grain = 1.0 + material[GRAIN] * (
        0.6 * noise_at(cube, x * 45, y * 45, z * 45) + 0.6 * noise_at(cube, x * 110, y * 110, z * 110)
    )
    for i in range(3):
        base = material[COLOR_A + i] * (1 - b) + material[COLOR_B + i] * b
        color[i] = (base * (1 - c) + material[COLOR_C + i] * c) * grain
    decal = int(material[DECAL])
    if decal >= 0 and y < material[ORIGIN + 1]:  # on the front
        half = material[DECAL_HALF]
        u = (x - material[DECAL_X]) / half
        v = (material[DECAL_Z] - z) / half
        if abs(u) < 1 and abs(v) < 1:
            size = decals.shape[1]
            i, j = int((v + 1) * 0.5 * size), int((u + 1) * 0.5 * size)
            fraction = decals[decal, i, j, 3]
            for k in range(3):
                color[k] = color[k] * (1 - fraction) + decals[decal, i, j, k] * fraction
    for p in range(int(material[PAINT_FIRST]), int(material[PAINT_LAST])):
        dx = (x - paints[p, 0]) / paints[p, 3]
        dy = (y - paints[p, 1]) / paints[p, 4]
        dz = (z - paints[p, 2]) / paints[p, 5]
        fraction = min(max((1.0 - (dx * dx + dy * dy + dz * dz)) * 2.5, 0.0), 1.0) * paints[p, 9]
        for k in range(3):
            color[k] = color[k] * (1 - fraction) + paints[p, 6 + k] * fraction


@_jit
def _lit(shadow_map, light_axes, shadow_low, shadow_scale, x, y, z, bias):
    """Return the fraction of the key light that reaches a world position: the mean of nine taps of the shadow map."""
    size = shadow_map.shape[0]
    u = (light_axes[0, 0] * x + light_axes[0, 1] * y + light_axes[0, 2] * z - shadow_low[0]) * shadow_scale
    v = (light_axes[1, 0] * x + light_axes[1, 1] * y + light_axes[1, 2] * z - shadow_low[1]) * shadow_scale
    depth = light_axes[2, 0] * x + light_axes[2, 1] * y + light_axes[2, 2] * z - bias
    iu, iv = int(np.floor(u - 0.5)), int(np.floor(v - 0.5))
    if iu < 2 or iv < 2 or iu > size - 5 or iv > size - 5:
        return 1.0
    fu, fv = u - 0.5 - iu, v - 0.5 - iv
    lit = 0.0
    for j in range(-1, 3):
        wv = 1 - fv if j == -1 else (fv if j == 2 else 1.0)
        for i in range(-1, 3):
            wu = 1 - fu if i == -1 else (fu if i == 2 else 1.0)
            if depth <= shadow_map[iv + j, iu + i]:
                lit += wu * wv
    return lit / 9.0


@_jit
def light_depths(vertices, faces, light_axes, shadow_low, shadow_scale, shadow_map):
    """Compute the orthographic depth of the nearest surface from the key light, into `shadow_map` [S, S]."""
    size = shadow_map.shape[0]
    shadow_map[:] = 1e9
    flat = np.empty((len(vertices), 3), np.float32)
    for i in range(len(vertices)):
        for a in range(3):
            flat[i, a] = (
                light_axes[a, 0] * vertices[i, 0]
                + light_axes[a, 1] * vertices[i, 1]
                + light_axes[a, 2] * vertices[i, 2]
            )
        flat[i, 0] = (flat[i, 0] - shadow_low[0]) * shadow_scale
        flat[i, 1] = (flat[i, 1] - shadow_low[1]) * shadow_scale
    for k in range(len(faces)):
        a, b, c = flat[faces[k, 0]], flat[faces[k, 1]], flat[faces[k, 2]]
        area = (b[0] - a[0]) * (c[1] - a[1]) - (b[1] - a[1]) * (c[0] - a[0])
        if area == 0.0:
            continue
        scale = 1.0 / area
        for y in range(
            max(0, int(np.ceil(min(a[1], min(b[1], c[1])) - 0.5))),
            min(size - 1, int(np.floor(max(a[1], max(b[1], c[1])) - 0.5))) + 1,
        ):
            for x in range(
                max(0, int(np.ceil(min(a[0], min(b[0], c[0])) - 0.5))),
                min(size - 1, int(np.floor(max(a[0], max(b[0], c[0])) - 0.5))) + 1,
            ):
                px, py = x + 0.5 - a[0], y + 0.5 - a[1]
                v = (px * (c[1] - a[1]) - py * (c[0] - a[0])) * scale
                w = ((b[0] - a[0]) * py - (b[1] - a[1]) * px) * scale
                if v >= 0.0 and w >= 0.0 and v + w <= 1.0:
                    z = (1 - v - w) * a[2] + v * b[2] + w * c[2]
                    if z < shadow_map[y, x]:
                        shadow_map[y, x] = z


@_jit
def _texel(texels, offset, rows, columns, u, v, color):
    """Look up one mip level, stored at `offset` of the flat `texels` [N, 3], bilinearly and repeating."""
    u, v = u * columns - 0.5, v * rows - 0.5
    fu, fv = np.floor(u), np.floor(v)
    du, dv = u - fu, v - fv
    i, j = int(fv) % rows, int(fu) % columns
    i1, j1 = (i + 1) % rows, (j + 1) % columns
    a, b = offset + i * columns + j, offset + i * columns + j1
    c, d = offset + i1 * columns + j, offset + i1 * columns + j1
    for k in range(3):
        color[k] = (texels[a, k] * (1 - du) + texels[b, k] * du) * (1 - dv) + (
            texels[c, k] * (1 - du) + texels[d, k] * du
        ) * dv


@_jit
def draw_room(image, view, room, light, spots, shadow):
    """Draw the inside of a box room into `image` [H, W, 3].

    `view` is the camera's (rotation, position, focal). `room` is (low, high, texels, levels, sizes): the box from `low`
    to `high` (world, meters). Surface s = 2 axis + (1 if the high side); its texture covers `sizes[s]` meters;
    `levels[s]` lists its mip levels as (offset, rows, columns), finest first. `spots` [B, 4] darken the floor: x, y,
    radius, strength.
    """
    height, width = image.shape[:2]
    rotation, position, focal = view
    low, high, texels, levels, sizes = room
    direction, ambient, key = light
    shadow_map, light_axes, shadow_low, shadow_scale = shadow
    color = np.empty(3)
    ray, hit = np.empty(3), np.empty(3)
    for y in range(height):
        v = (y + 0.5 - height * 0.5) / focal
        for x in range(width):
            u = (x + 0.5 - width * 0.5) / focal
            reach, axis = 1e9, 0
            for a in range(3):
                ray[a] = rotation[0, a] * u + rotation[1, a] * v + rotation[2, a]
                if abs(ray[a]) > 1e-9:
                    t = ((high[a] if ray[a] > 0 else low[a]) - position[a]) / ray[a]
                    if t < reach:
                        reach, axis = t, a
            for a in range(3):
                hit[a] = position[a] + reach * ray[a]
            surface = 2 * axis + (1 if ray[axis] > 0 else 0)
            if axis == 2:
                p, q = hit[0] - low[0], hit[1] - low[1]
            elif axis == 0:
                p, q = hit[1] - low[1], high[2] - hit[2]
            else:
                p, q = hit[0] - low[0], high[2] - hit[2]
            cosine = abs(ray[axis]) / np.sqrt(1 + u * u + v * v)
            footprint = reach / focal / max(np.sqrt(cosine), 0.1)
            texel_size = sizes[surface, 0] / levels[surface, 0, 2]
            level = int(min(max(np.log2(footprint / texel_size + 1e-9) + 0.3, 0.0), levels.shape[1] - 1))
            _texel(
                texels,
                levels[surface, level, 0],
                levels[surface, level, 1],
                levels[surface, level, 2],
                p / sizes[surface, 0],
                q / sizes[surface, 1],
                color,
            )
            facing = direction[axis] * (-1.0 if ray[axis] > 0 else 1.0)
            bright = ambient
            if facing > 0:
                bright += (
                    key * facing * _lit(shadow_map, light_axes, shadow_low, shadow_scale, hit[0], hit[1], hit[2], 0.02)
                )
            if surface == 4:
                for b in range(len(spots)):
                    dx, dy = hit[0] - spots[b, 0], hit[1] - spots[b, 1]
                    near = (dx * dx + dy * dy) / (spots[b, 2] * spots[b, 2])
                    if near < 9:
                        bright *= 1 - spots[b, 3] * np.exp(-near)
            for k in range(3):
                image[y, x, k] = color[k] * bright


@_jit
def shade(image, backdrop, index, mesh, surface, position, light, shadow):
    """Add the color of the mesh under every pixel, or else of the `backdrop`, to `image` [H, W, 3].

    `mesh` is (corners, faces, vertices, normals, rest), as projected, in the world, and at rest. `surface` is
    (materials, face_material, face_border, noise cube, decals, paints). `position` is the camera's.
    """
    height, width = index.shape
    corners, faces, vertices, normals, rest = mesh
    materials, face_material, face_border, cube, decals, paints = surface
    direction, ambient, key = light
    shadow_map, light_axes, shadow_low, shadow_scale = shadow
    color = np.empty(3)
    for y in range(height):
        for x in range(width):
            k = index[y, x]
            if k < 0:
                for i in range(3):
                    image[y, x, i] += backdrop[y, x, i]
                continue
            # Perspective-correct weights of the corners.
            a, b, c = faces[k, 0], faces[k, 1], faces[k, 2]
            ax, ay = corners[a, 0], corners[a, 1]
            px, py = x + 0.5 - ax, y + 0.5 - ay
            bx, by = corners[b, 0] - ax, corners[b, 1] - ay
            cx, cy = corners[c, 0] - ax, corners[c, 1] - ay
            scale = 1.0 / (bx * cy - by * cx)
            v = (px * cy - py * cx) * scale
            w = (bx * py - by * px) * scale
            u = (1 - v - w) * corners[a, 2]
            v *= corners[b, 2]
            w *= corners[c, 2]
            total = 1.0 / (u + v + w)
            u, v, w = u * total, v * total, w * total
            nx = u * normals[a, 0] + v * normals[b, 0] + w * normals[c, 0]
            ny = u * normals[a, 1] + v * normals[b, 1] + w * normals[c, 1]
            nz = u * normals[a, 2] + v * normals[b, 2] + w * normals[c, 2]
            wx = u * vertices[a, 0] + v * vertices[b, 0] + w * vertices[c, 0]
            wy = u * vertices[a, 1] + v * vertices[b, 1] + w * vertices[c, 1]
            wz = u * vertices[a, 2] + v * vertices[b, 2] + w * vertices[c, 2]
            length = 1.0 / np.sqrt(nx * nx + ny * ny + nz * nz + 1e-12)
            ex, ey, ez = position[0] - wx, position[1] - wy, position[2] - wz
            toward = 1.0 / np.sqrt(ex * ex + ey * ey + ez * ez)
            ex, ey, ez = ex * toward, ey * toward, ez * toward
            nx, ny, nz = nx * length, ny * length, nz * length
            rx = u * rest[a, 0] + v * rest[b, 0] + w * rest[c, 0]
            ry = u * rest[a, 1] + v * rest[b, 1] + w * rest[c, 1]
            rz = u * rest[a, 2] + v * rest[b, 2] + w * rest[c, 2]
            inside = u * face_border[k, 0] + v * face_border[k, 1] + w * face_border[k, 2] >= 0
            material = materials[face_material[k, 0 if inside else 1]]
            _albedo(material, rx, ry, rz, cube, decals, paints, color)
            facing = nx * direction[0] + ny * direction[1] + nz * direction[2]
            diffuse = max((facing + 0.15) / 1.15, 0.0)
            if diffuse > 0:
                diffuse *= _lit(
                    shadow_map, light_axes, shadow_low, shadow_scale,
                    wx + 0.015 * nx, wy + 0.015 * ny, wz + 0.015 * nz, 0.012,
                )  # fmt: skip
            bright = ambient * (0.72 + 0.28 * nz) + key * diffuse
            # Fabric and rounded limbs are darker where they turn away from the camera.
            bright *= 0.8 + 0.2 * min(abs(nx * ex + ny * ey + nz * ez) * 1.5, 1.0)
            wrinkle = material[WRINKLE]
            if wrinkle > 0:
                fold = noise_at(cube, rx * 16, ry * 16, rz * 9) - noise_at(
                    cube, (rx + 0.012) * 16, ry * 16, (rz + 0.012) * 9
                )
                crease = noise_at(cube, rx * 38 + 9, ry * 38, rz * 20) - noise_at(
                    cube, (rx + 0.006) * 38 + 9, ry * 38, (rz + 0.006) * 20
                )
                bright *= max(1 + wrinkle * (2.2 * fold + 1.4 * crease), 0.25)
            gloss = 0.0
            if material[SHINE] > 0:
                hx, hy, hz = direction[0] + ex, direction[1] + ey, direction[2] + ez
                half = (nx * hx + ny * hy + nz * hz) / np.sqrt(hx * hx + hy * hy + hz * hz)
                gloss = material[SHINE] * key * max(half, 0.0) ** 24
            for i in range(3):
                image[y, x, i] += color[i] * bright + gloss
