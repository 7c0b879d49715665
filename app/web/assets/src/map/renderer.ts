// Draws points: WebGL 2, else WebGL 1, else a plain canvas. No library: those that generate code at run
// time would need a content policy that allows it.
import type { Camera } from "./camera";
import type { Points } from "./data";

export interface Look {
  /** Red, green, blue, alpha per point, 0 to 255. */
  colours: Uint8Array;
  /** Points drawn last and larger. */
  raised: Uint32Array;
  ring: [number, number, number];
}

export interface Renderer {
  readonly name: string;
  setLook(look: Look): void;
  draw(camera: Camera, ratio: number): void;
}

const VERTEX = `
attribute vec2 place;
attribute vec4 colour;
uniform vec2 centre;
uniform vec2 scale;
uniform mediump float size;
varying vec4 tone;
void main() {
  gl_Position = vec4((place - centre) * scale, 0.0, 1.0);
  gl_PointSize = colour.a == 0.0 ? 0.0 : size;
  tone = colour;
}`;

const FRAGMENT = `
precision mediump float;
uniform mediump float size;
uniform vec3 ring;
uniform float ringed;
varying vec4 tone;
void main() {
  float away = length(gl_PointCoord - 0.5) * size;
  float edge = size * 0.5;
  float cover = clamp(edge - away, 0.0, 1.0);
  vec3 paint = mix(tone.rgb, ring, ringed * clamp(away - edge + 2.5, 0.0, 1.0));
  float alpha = tone.a * cover;
  gl_FragColor = vec4(paint * alpha, alpha);
}`;

/** Diameter in CSS pixels: small in a crowd, larger when zoomed in. */
export function pointSize(count: number, zoom: number): number {
  const crowd = count > 200_000 ? 1.6 : count > 50_000 ? 2.2 : count > 8_000 ? 3.2 : count > 1_500 ? 4.5 : 6.5;
  return Math.min(11, crowd * Math.max(0.8, zoom ** 0.4));
}

export function createRenderer(canvas: HTMLCanvasElement, points: Points): Renderer {
  const options: WebGLContextAttributes = { antialias: false, alpha: true, premultipliedAlpha: true };
  const two = canvas.getContext("webgl2", options) as WebGL2RenderingContext | null;
  if (two) return new GlRenderer(two, "WebGL 2", points);
  const one = canvas.getContext("webgl", options) as WebGLRenderingContext | null;
  if (one?.getExtension("OES_element_index_uint")) return new GlRenderer(one, "WebGL 1", points);
  return new PlainRenderer(canvas, points);
}

class GlRenderer implements Renderer {
  private readonly places: WebGLBuffer | null;
  private readonly colours: WebGLBuffer | null;
  private readonly raised: WebGLBuffer | null;
  private readonly program: WebGLProgram;
  private raisedCount = 0;
  private ring: [number, number, number] = [0, 0, 0];

  constructor(
    private readonly gl: WebGL2RenderingContext | WebGLRenderingContext,
    readonly name: string,
    private readonly points: Points,
  ) {
    this.program = link(gl);
    this.places = gl.createBuffer();
    this.colours = gl.createBuffer();
    this.raised = gl.createBuffer();
    const pairs = new Float32Array(points.count * 2);
    for (let i = 0; i < points.count; i++) {
      pairs[i * 2] = points.x[i]!;
      pairs[i * 2 + 1] = points.y[i]!;
    }
    gl.bindBuffer(gl.ARRAY_BUFFER, this.places);
    gl.bufferData(gl.ARRAY_BUFFER, pairs, gl.STATIC_DRAW);
  }

  setLook(look: Look): void {
    const gl = this.gl;
    gl.bindBuffer(gl.ARRAY_BUFFER, this.colours);
    gl.bufferData(gl.ARRAY_BUFFER, look.colours, gl.DYNAMIC_DRAW);
    gl.bindBuffer(gl.ELEMENT_ARRAY_BUFFER, this.raised);
    gl.bufferData(gl.ELEMENT_ARRAY_BUFFER, look.raised, gl.DYNAMIC_DRAW);
    this.raisedCount = look.raised.length;
    this.ring = look.ring;
  }

  draw(camera: Camera, ratio: number): void {
    const gl = this.gl;
    gl.viewport(0, 0, gl.drawingBufferWidth, gl.drawingBufferHeight);
    gl.clearColor(0, 0, 0, 0);
    gl.clear(gl.COLOR_BUFFER_BIT);
    gl.useProgram(this.program);
    gl.enable(gl.BLEND);
    gl.blendFunc(gl.ONE, gl.ONE_MINUS_SRC_ALPHA);
    this.attribute("place", this.places, 2, gl.FLOAT, false);
    this.attribute("colour", this.colours, 4, gl.UNSIGNED_BYTE, true);
    const { x, y, scale } = camera.view;
    gl.uniform2f(this.uniform("centre"), x, y);
    gl.uniform2f(this.uniform("scale"), (2 * scale) / camera.width, (2 * scale) / camera.height);
    gl.uniform3f(this.uniform("ring"), ...this.ring);
    const size = pointSize(this.points.count, camera.zoom) * ratio;
    gl.uniform1f(this.uniform("ringed"), 0);
    gl.uniform1f(this.uniform("size"), size);
    gl.drawArrays(gl.POINTS, 0, this.points.count);
    if (!this.raisedCount) return;
    gl.uniform1f(this.uniform("ringed"), 1);
    gl.uniform1f(this.uniform("size"), size + 4 * ratio);
    gl.bindBuffer(gl.ELEMENT_ARRAY_BUFFER, this.raised);
    gl.drawElements(gl.POINTS, this.raisedCount, gl.UNSIGNED_INT, 0);
  }

  private attribute(name: string, buffer: WebGLBuffer | null, width: number, type: number, whole: boolean): void {
    const place = this.gl.getAttribLocation(this.program, name);
    this.gl.bindBuffer(this.gl.ARRAY_BUFFER, buffer);
    this.gl.enableVertexAttribArray(place);
    this.gl.vertexAttribPointer(place, width, type, whole, 0, 0);
  }

  private uniform(name: string): WebGLUniformLocation | null {
    return this.gl.getUniformLocation(this.program, name);
  }
}

function link(gl: WebGL2RenderingContext | WebGLRenderingContext): WebGLProgram {
  const program = gl.createProgram();
  for (const [type, source] of [
    [gl.VERTEX_SHADER, VERTEX],
    [gl.FRAGMENT_SHADER, FRAGMENT],
  ] as const) {
    const shader = gl.createShader(type);
    if (!shader) throw new Error("The graphics context was lost.");
    gl.shaderSource(shader, source);
    gl.compileShader(shader);
    gl.attachShader(program, shader);
  }
  gl.linkProgram(program);
  if (!gl.getProgramParameter(program, gl.LINK_STATUS)) {
    throw new Error(`The map's shaders do not link: ${gl.getProgramInfoLog(program) ?? "no reason given"}`);
  }
  return program;
}

/** Without WebGL: squares on a plain canvas, at most 60,000 of them, raised ones last. */
class PlainRenderer implements Renderer {
  readonly name = "Canvas";
  private look: Look = { colours: new Uint8Array(), raised: new Uint32Array(), ring: [0, 0, 0] };

  constructor(
    private readonly canvas: HTMLCanvasElement,
    private readonly points: Points,
  ) {}

  setLook(look: Look): void {
    this.look = look;
  }

  draw(camera: Camera, ratio: number): void {
    const paper = this.canvas.getContext("2d");
    if (!paper) return;
    paper.clearRect(0, 0, this.canvas.width, this.canvas.height);
    const size = pointSize(this.points.count, camera.zoom) * ratio;
    const step = Math.max(1, Math.ceil(this.points.count / 60_000));
    for (let i = 0; i < this.points.count; i += step) this.dot(paper, camera, ratio, i, size);
    for (const i of this.look.raised) this.dot(paper, camera, ratio, i, size * 1.6);
  }

  private dot(paper: CanvasRenderingContext2D, camera: Camera, ratio: number, i: number, size: number): void {
    const [px, py] = camera.toScreen(this.points.x[i]!, this.points.y[i]!);
    if (px < 0 || py < 0 || px > camera.width || py > camera.height) return;
    const c = this.look.colours;
    paper.fillStyle = `rgba(${c[i * 4]}, ${c[i * 4 + 1]}, ${c[i * 4 + 2]}, ${c[i * 4 + 3]! / 255})`;
    paper.fillRect(px * ratio - size / 2, py * ratio - size / 2, size, size);
  }
}
